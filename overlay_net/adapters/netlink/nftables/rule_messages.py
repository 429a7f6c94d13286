"""Messages of the kernel with a rule of nftables, and what is in their nested attributes."""

from collections.abc import Iterator, Mapping
from typing import Any

Chain = tuple[int, str, str]
"""Family, table and name."""


class Rule:
    """One message of the kernel."""

    def __init__(self, message: Any) -> None:
        self.family = int(message["nfgen_family"])
        self.table = str(message.get_attr("NFTA_RULE_TABLE"))
        self.chain = str(message.get_attr("NFTA_RULE_CHAIN"))
        found = message.get_attr("NFTA_RULE_EXPRESSIONS") or ()
        self.expressions = [
            (str(each.get_attr("NFTA_EXPR_NAME")), _find_attributes(each.get_attr("NFTA_EXPR_DATA"))) for each in found
        ]

    @property
    def place(self) -> Chain:
        return self.family, self.table, self.chain

    def find_jumps(self) -> Iterator[str]:
        for name, attributes in self.expressions:
            verdict = find_verdict(attributes) if name == "immediate" else {}
            if verdict.get("NFTA_VERDICT_CODE") in ("NFT_JUMP", "NFT_GOTO"):
                yield str(verdict["NFTA_VERDICT_CHAIN"])


def _find_attributes(data: Any) -> Mapping[str, Any]:
    return {each[0]: each[1] for each in data["attrs"]} if data is not None and "attrs" in data else {}


def find_verdict(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    return _find_attributes(_find_attributes(attributes.get("NFTA_IMMEDIATE_DATA")).get("NFTA_DATA_VERDICT"))


def find_value(data: Any) -> bytes:
    value = _find_attributes(data).get("NFTA_DATA_VALUE", b"")
    return value if isinstance(value, bytes) else b""
