"""What worker and broker agree on: memory layout, hand-over, waiting, control messages, errors. Knows no TensorFlow.

Read `layout` first, then `tensors`, `ring`, `waiting`, `control`.
"""
