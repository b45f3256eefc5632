"""Write README's table of test scores between its two markers, from the kept reference run: `make readme-table`."""

import re
from pathlib import Path

from adaswitch_lib.report import tables

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- table of the reference run: make readme-table -->\n).*?(<!-- end of the table -->)", re.DOTALL)


def written() -> str:
    """README with the table as it should be."""
    table = tables.markdown(tables.table_1(ROOT / "results" / "micro"))
    return BLOCK.sub(lambda marks: f"{marks[1]}{table}\n{marks[2]}", README.read_text("utf-8"))


if __name__ == "__main__":
    README.write_text(written(), "utf-8")
