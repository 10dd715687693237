"""What the project is measured with, and the demo. Not part of the distribution."""
