"""Writes the tables of config fields in docs/training.md from fer/config.py: python docs/build_config_tables.py."""

import pathlib
import re

from fer import config

PAGE = pathlib.Path(__file__).with_name("training.md")


def fill(page: str) -> str:
    """Returns the text of training.md with one table row for each config field, in the table of its section."""
    rows: dict[str, str] = {}
    for path, (default, meaning) in config.field_help(code="`").items():
        cells = (f"`{path}={repr(default) if default == '' else default}`", meaning)
        section = path.rpartition(".")[0]
        rows[section] = rows.get(section, "") + "| {} | {} |\n".format(*(cell.replace("|", r"\|") for cell in cells))
    for section, lines in rows.items():
        prefix = re.escape(f"{section}.") if section else ""
        table = re.compile(rf"(^\| `{prefix}\w+=.*\n)+", re.MULTILINE)
        page = table.sub(lambda _, lines=lines: lines, page, count=1)
    return page


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Wrote {PAGE}.")
