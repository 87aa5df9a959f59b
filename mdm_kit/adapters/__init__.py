"""Adapters: what a fine-tune changed, as a LoRA that peft loads onto the base."""
