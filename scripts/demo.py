"""Serves a local web page that classifies faces in photos: python scripts/demo.py --workdir=DIR.

Open the printed address in a browser.
"""

from absl import flags

from fer import cli
from fer.models import loading

WORKDIR = flags.DEFINE_string("workdir", None, "Run directory, export of a run, or `bundled`, the bundled model.")
HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on. With the default only this machine can open the page, which has no password. Browsers allow "
    "the camera only at http://localhost; from another machine, use ssh -L 7860:localhost:7860.",
)
PORT = flags.DEFINE_integer("port", 7860, "Port to listen on; 0 chooses a free port.", lower_bound=0, upper_bound=65535)
cli.require("workdir")


def main() -> None:
    loading.check(WORKDIR.value)
    from fer.demo import server  # raises a UserError if Flask is missing, which `cli.run` prints

    server.serve(WORKDIR.value, HOST.value, PORT.value)


if __name__ == "__main__":
    cli.run(main)
