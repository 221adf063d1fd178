"""A local page to try a network on: python scripts/demo.py --workdir=DIR, then open the address that it prints."""

from absl import flags

from fer import cli
from fer.models import loading

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, an export of one, or bundled.")
HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on. By default nobody but this machine reaches the page; it asks for no password. Browsers let "
    "it use a camera at http://localhost alone: from another machine, ssh -L 7860:localhost:7860 brings it there.",
)
PORT = flags.DEFINE_integer("port", 7860, "Port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
cli.require("workdir")


def main() -> None:
    loading.check(WORKDIR.value)
    from fer.demo import server  # within `cli.run`, so that a missing Flask is told in a sentence

    server.serve(WORKDIR.value, HOST.value, PORT.value)


if __name__ == "__main__":
    cli.run(main)
