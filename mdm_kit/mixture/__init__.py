"""What a mixture of experts has that its models have not: routers, from prompts or by chance."""
