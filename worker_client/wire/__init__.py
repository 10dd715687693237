"""The bytes that worker and broker exchange: layout, tensors, states, control messages, errors. No threads, no waiting.

Read `layout` first, then `tensors`, `states`, `control`.
"""
