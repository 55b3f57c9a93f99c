"""What a pair of one tokenizer says about the tokens of another: probabilities of byte strings."""
