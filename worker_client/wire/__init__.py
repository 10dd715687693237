"""What worker and broker agree on, as bytes: layout, tensors, states, control messages, errors. No threads, no waiting.

Read `layout` first, then `tensors`, `states`, `control`.
"""
