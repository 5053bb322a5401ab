"""A real editor: VS Code's own server and its workbench in Chromium, driven as a person does."""
