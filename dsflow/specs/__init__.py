"""The files a person writes, read into frozen specs with every mistake named at once."""
