"""The samples of a workspace: what its sampled runs read. docs/sampling.md."""
