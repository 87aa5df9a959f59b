"""What was merged: the manifest, its canonical form and its digests. No torch here."""
