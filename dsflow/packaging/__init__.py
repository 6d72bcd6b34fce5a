"""What `spark-submit` is to send with a job: modules and locked requirements in a zip, the config, the program."""
