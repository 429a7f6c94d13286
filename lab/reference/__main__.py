"""python -m lab.reference: writes all generated pages and tables."""

from lab.reference import values
from lab.reference.pages import PAGES


def main() -> None:
    for file, reference in PAGES.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(reference())
    values.README.write_text(values.page(values.README.read_text()))
    values.SCHEMA.write_text(values.described_schema(values.SCHEMA.read_text()))


if __name__ == "__main__":
    main()
