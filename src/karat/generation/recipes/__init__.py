"""Recipes: how a row of a plan becomes a prompt. One file each; the file name is the recipe's name."""
