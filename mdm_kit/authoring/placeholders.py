"""Models nobody has: what stands in a starter recipe where a reader puts their own."""

BASE = "your-org/base-model"
MATH, CODE, CHAT = (f"{BASE}-{skill}" for skill in ("math", "code", "chat"))
