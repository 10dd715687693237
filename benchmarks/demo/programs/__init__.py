"""Programs that the demo runs in processes of their own. The demo's process imports none of them."""
