"""Services: long-lived programs of a workspace, such as Jupyter. Started, found again, watched and stopped."""
