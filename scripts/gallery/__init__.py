"""The gallery: a page for every case of the clinic, with its picture, its sound and its diagnosis."""
