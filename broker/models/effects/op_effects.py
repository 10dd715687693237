"""The effects of TensorFlow's ops besides computing, by name and by the op registry. Pure.

The registry decides about ops that are in no list below: an op that is declared stateful, or that takes a reference,
changes something. Ops are listed because they only read, because their changes live no longer than the run, or to give
the kind of change.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache


class EffectKind(Enum):
    """The kind of thing that a run changes, or that makes two runs differ."""

    VARIABLES = "variables"
    TABLES = "tables"
    FILES = "files"
    QUEUES = "queues"
    """Also iterators, stages, barriers, accumulators: everything that gives each element once."""
    RANDOM = "random"
    PYTHON = "python"
    READS = "reads"
    """Reads files, whose names a session may feed. Only `kind_in_session` returns it, because two runs do not
    differ."""
    OTHER = "other"


@lru_cache(maxsize=4096)
def kind_of(op: str, declared: bool) -> EffectKind | None:
    """The kind of change that this op makes; None if it makes none.

    `declared`: the registry lists it as stateful or as taking a reference, or does not know it.
    """
    for kind, pattern in _ALWAYS.items():
        if pattern.fullmatch(op):
            return kind
    if not declared or _HARMLESS.fullmatch(op):
        return None
    return next((kind for kind, pattern in _IF_DECLARED.items() if pattern.fullmatch(op)), EffectKind.OTHER)


def kind_in_session(op: str, declared: bool) -> EffectKind | None:
    """As `kind_of`, and also a kind for every op that takes the name of a file or the address of a server."""
    return kind_of(op, declared) or (EffectKind.READS if _REACHES_OUT.fullmatch(op) else None)


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(" ".join(patterns).split()))


_ALWAYS = {
    EffectKind.PYTHON: _any_of("PyFunc|EagerPyFunc|PyFuncStateless"),
    EffectKind.RANDOM: _any_of(
        # A data set that shuffles is declared stateful only if it takes a generator.
        r"(Experimental)?RandomDataset(V\d)? (Global)?Shuffle(AndRepeat)?Dataset(V\d)?",
    ),
}

_IF_DECLARED = {
    EffectKind.RANDOM: _any_of(
        r"Random(Uniform|UniformInt|StandardNormal|Gamma|Poisson|PoissonV2|Shuffle|Crop)",
        r"TruncatedNormal ParameterizedTruncatedNormal Multinomial NonDeterministicInts",
        r"Stateful(Uniform|UniformInt|UniformFullInt|StandardNormal|StandardNormalV2|TruncatedNormal|RandomBinomial)",
        r"Rng(Skip|ReadAndSkip) SampleDistortedBoundingBox(V2)? \w+CandidateSampler Skipgram",
        r"CudnnRNN(V\d)?",  # for its dropout: `effects` accepts those without dropout
    ),
    EffectKind.TABLES: _any_of(r"LookupTable(Insert|Import|Remove)(V\d)? InitializeTable\w*"),
    EffectKind.FILES: _any_of(
        r"WriteFile Save(V2|Slices)? MergeV2Checkpoints DistributedSave DTensorSave\w* DumpTensor",
        r"SaveDataset(V\d)? (Experimental)?DatasetToTFRecord",
        r"CreateSummary(File|Db)Writer (Flush|Close)SummaryWriter ImportEvent Write\w*Summary",
    ),
    EffectKind.QUEUES: _any_of(
        r"Queue(Enqueue|EnqueueMany|Dequeue|DequeueMany|DequeueUpTo|Close)(V\d)?",
        r"Barrier(InsertMany|TakeMany|Close) (Sparse|Resource)?Accumulator\w+ Reader\w+ RecordInput",
        r"Stage Unstage StageClear (Ordered)?Map(Stage|Unstage|UnstageNoKey|Clear)",
        r"(AddSparseTo|AddManySparseTo|TakeManySparseFrom)TensorsMap",
        # An iterator that outlives the run advances. Iterators of one run are called Anonymous.
        r"Iterator(V2)? OneShotIterator (MultiDevice)?IteratorFromStringHandle(V2)? MultiDeviceIterator",
    ),
    EffectKind.VARIABLES: _any_of(
        r"Assign\w* Scatter\w+ StridedSliceAssign CountUpTo (Sparse)?Apply\w+ Destroy(ResourceOp|TemporaryVariable)",
        r"Resource((Sparse)?Apply|Scatter)\w+ ResourceStridedSliceAssign ResourceCountUpTo TemporaryVariable",
        r"NegTrain",
    ),
}

_HARMLESS = _any_of(
    # Handles, and reads through them.
    r"VarHandleOp _VarHandlesOp Variable(V2)? VariableShape VarIsInitializedOp IsVariableInitialized",
    r"ReadVariableOp _ReadVariablesOp ReadVariableXlaSplitND ResourceGather(Nd)? DisableCopyOnRead",
    r"HashTable(V2)? Mutable(Dense)?HashTable(OfTensors)?(V2)? LookupTable(Find|Size|Export)(V2)?",
    r"(FIFO|PaddingFIFO|Priority|RandomShuffle|Fake)Queue(V2)? Queue(Size|IsClosed)(V2)?",
    r"Barrier Barrier(ReadySize|IncompleteSize) (Sparse|Resource)?ConditionalAccumulator",
    r"(Stage|(Ordered)?Map)(Size|IncompleteSize|Peek) StagePeek SummaryWriter",
    r"(Resource)?AccumulatorNumAccumulated \w+Reader(V2)? IsResourceHandleRefCounting MakeWeakResourceHandle",
    r"BoostedTrees(Predict|GetEnsembleStates|EnsembleResourceHandleOp|QuantileStreamResourceHandleOp)",
    r"BoostedTrees(ExampleDebugOutputs|QuantileStreamResourceGetBucketBoundaries)",
    r"IsBoostedTrees\w+Initialized ResourceInitializedOp StatelessRandomGetAlg DeviceIndex Timestamp",
    # References that are only passed on.
    r"Ref(Identity|Switch|Merge|Select|Enter|Exit|NextIteration)",
    # Objects that live no longer than the run.
    r"TensorArray\w* Stack(V2)? Stack(Push|Pop|Close)(V2)? Anonymous\w+ Dummy(MemoryCache|SeedGenerator)",
    r"MakeIterator DeleteIterator IteratorGet(Next|NextSync|NextAsOptional|Device) IteratorToStringHandle",
    r"Delete(MemoryCache|RandomSeedGenerator|SeedGenerator|MultiDeviceIterator) DummyIterationCounter",
    r"MultiDeviceIterator(Init|GetNextFromShard|ToStringHandle) MutexV2 MutexLock ConsumeMutexLock",
    # Data sets, which are declared stateful only to prevent constant folding.
    r"(Experimental)?(CSV|LMDB|Sql|MatchingFiles|GroupByReducer|ThreadPool)Dataset(V2)? CacheDatasetV2",
    r"(Tensor|TensorSlice|SparseTensorSlice|Range|List|Load|Generator|ListSnapshotChunks)Dataset",
    r"(FixedLengthRecord|TextLine|TFRecord)Dataset(V2)? ReduceDataset DatasetToSingleElement",
    r"(Experimental)?ThreadPoolHandle",
    # Files that are read.
    r"Restore(V2|Slice)? LoadAndRemapMatrix DTensorRestoreV2 ReadFile MatchingFiles",
    # Checks and prints: repeating them does no harm.
    r"Assert CheckNumerics(V2)? Print(V2)? GuaranteeConst DtypeWithDefaultOp Empty DeepCopy GraphDefVersion",
    r"_?ParallelConcat\w* _Arg _Retval _DeviceArg _DeviceRetval",
    # Calls: the called functions are examined.
    r"(Stateful)?PartitionedCall _?(Stateless)?(If|While|Case) For RemoteCall SymbolicGradient BatchFunction",
    r"Xla(Launch|If|While|CallModule) TRTEngineOp",
    # Ops of other libraries: TensorFlow Text, TensorFlow Decision Forests.
    r"Sentencepiece(Tokenize|TokenizeWithOffsets|Detokenize|VocabSize|IdToString|StringToId)?Op",
    r"SimpleML(InferenceOp\w*|CreateModelResource)",
)

_REACHES_OUT = _any_of(
    r"Restore(V2|Slice)? DTensorRestoreV2 LoadAndRemapMatrix GenerateVocabRemapping ReadFile MatchingFiles",
    r"(Experimental)?(CSV|LMDB|Sql|MatchingFiles)Dataset(V\d)? (FixedLengthRecord|TextLine|TFRecord)Dataset(V\d)?",
    r"CacheDataset(V\d)? LoadDataset(V\d)? \w*Snapshot\w*Dataset\w* SnapshotDatasetReader SnapshotNestedDatasetReader",
    r"RegisterDataset(V\d)? \w+Reader(V2)?",
)
