"""Where people already are: a run in the tracker and the trainer that they use, each imported only when it is named."""
