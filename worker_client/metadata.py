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
    """One served model. `signatures` maps names to signatures."""

    name: str
    version: int
    default_signature: str
    signatures: dict[str, SignatureInfo]

    @classmethod
    def from_message(cls, name: str, message: dict[str, Any]) -> ModelInfo:
        signatures = {
            item["name"]: SignatureInfo(item["id"], Signature.from_message(item))
            for item in message["signatures"]
        }
        return cls(name, message["version"], message["default_signature"], signatures)
