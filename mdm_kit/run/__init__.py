"""From a plan to a sealed folder; the only room with threads, devices and journals."""
