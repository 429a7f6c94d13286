"""python -m lab.reference: writes all generated pages and tables."""

from lab.reference import cli, metrics, values


def main() -> None:
    cli.FILE.write_text(cli.reference())
    metrics.FILE.write_text(metrics.reference())
    values.README.write_text(values.page(values.README.read_text()))
    values.SCHEMA.write_text(values.described_schema(values.SCHEMA.read_text()))


if __name__ == "__main__":
    main()
