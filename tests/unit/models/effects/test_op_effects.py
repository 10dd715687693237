"""Ops by name: what the registry says counts, unless the op is known."""

from __future__ import annotations

import pytest

from broker.models.effects.op_effects import EffectKind, kind_of


@pytest.mark.parametrize(
    ("kind", "ops"),
    [
        (
            EffectKind.VARIABLES,
            "Assign AssignAddVariableOp ScatterNdUpdate ResourceApplyAdamWithAmsgrad ApplyMomentum",
        ),
        (EffectKind.TABLES, "LookupTableInsertV2 LookupTableImport InitializeTableFromTextFileV2"),
        (EffectKind.FILES, "WriteFile SaveV2 MergeV2Checkpoints WriteScalarSummary SaveDatasetV2"),
        (
            EffectKind.QUEUES,
            "QueueEnqueueV2 QueueDequeueManyV2 BarrierTakeMany Unstage IteratorV2 ReaderReadV2",
        ),
        (
            EffectKind.RANDOM,
            "RandomUniform Multinomial RngReadAndSkip StatefulUniform LogUniformCandidateSampler",
        ),
        (EffectKind.PYTHON, "PyFunc EagerPyFunc PyFuncStateless"),
        (EffectKind.OTHER, "SomebodysOp CollectiveReduceV2 SendTPUEmbeddingGradients"),
        (None, "VarHandleOp ReadVariableOp ResourceGather LookupTableFindV2 MutableHashTableV2 FIFOQueueV2"),
        (None, "TensorArrayWriteV3 StackPushV2 AnonymousIteratorV3 IteratorGetNext RangeDataset RestoreV2"),
        (None, "Assert PrintV2 Timestamp StatefulPartitionedCall While If StatelessRandomGetAlg QueueSizeV2"),
    ],
)
def test_declared_stateful(kind: EffectKind | None, ops: str) -> None:
    """Ops that the registry calls stateful: the known by their kind, or harmless; the unknown have effects."""
    assert {op: kind_of(op, True) for op in ops.split()} == dict.fromkeys(ops.split(), kind)


def test_declared_stateless() -> None:
    """All others compute, but for those that call Python or shuffle, whatever the registry says of them."""
    assert {kind_of(op, False) for op in ("MatMul", "SomebodysOp", "StatelessRandomUniformV2", "Save")} == {
        None
    }
    assert kind_of("PyFuncStateless", False) is EffectKind.PYTHON
    assert kind_of("ShuffleDataset", False) is EffectKind.RANDOM
