"""What dsflow writes for a person: workspaces, jobs from templates, explorations."""
