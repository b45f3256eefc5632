"""Write README's table of verdicts between its two markers, from the kept reference run: `make readme-table`."""

import re
from pathlib import Path

from adaswitch_lib.report import claims, tables

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- written by make readme-table -->\n).*?(<!-- end -->)", re.DOTALL)


def block() -> str:
    """The paper's claims, our verdicts, and the least favourable comparison, which decides each."""
    verdicts = claims.verdicts(claims.table(ROOT / "results" / "micro"))
    verdicts = verdicts[verdicts.source != "ours"].rename(columns={"what it says": "the paper says", "verdict": "in our runs"})
    return f"\n{tables.markdown(verdicts[['claim', 'the paper says', 'in our runs', 'decided by']])}\n\n"


def written() -> str:
    """README with the table as it should be."""
    return BLOCK.sub(lambda marks: marks[1] + block() + marks[2], README.read_text("utf-8"))


if __name__ == "__main__":
    README.write_text(written(), "utf-8")
