"""What the broker tells about its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker_client.wire.signature import Signature


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """A signature and the number under which requests name it; the number holds for one attachment."""

    id: int
    signature: Signature


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One served model. `signatures` maps names to signatures, `unusable` those that this process cannot call to the
    reason why (bfloat16 without ml_dtypes). `timeout` in seconds is its calls' default, None if it has none."""

    name: str
    version: int
    default_signature: str
    signatures: dict[str, SignatureInfo]
    unusable: dict[str, str]
    timeout: float | None = None

    @classmethod
    def from_message(cls, name: str, message: dict[str, Any]) -> ModelInfo:
        signatures, unusable = {}, {}
        for item in message["signatures"]:
            try:
                signatures[item["name"]] = SignatureInfo(item["id"], Signature.from_message(item))
            except TypeError as error:
                unusable[item["name"]] = str(error)
        version, default = message["version"], message["default_signature"]
        return cls(name, version, default, signatures, unusable, message.get("timeout"))
