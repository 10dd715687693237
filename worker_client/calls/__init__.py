"""A call on its way: inputs checked, a slot filled and submitted, the answer awaited or left to a future.

What every kind of call has in common; event loops (`aio`) and greenlets (`green`) have folders of their own.
"""
