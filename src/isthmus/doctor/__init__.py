"""What is wrong between a client and a server, in plain words: observations in, findings out."""
