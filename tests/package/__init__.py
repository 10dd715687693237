"""`make package`: what would be published, tried as a user gets it."""
