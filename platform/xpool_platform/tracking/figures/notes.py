"""How to read each figure of a run, in a sentence."""

NOTES = {
    "attention": "Bars above the dashed line mark the frames that a caption takes more of than "
    "mean pooling does; the best checkpoint should single out those that show what it says.",
    "moved_attention": "The same frames under different captions: bars that differ from row to "
    "row show that the pooling follows the text, equal ones that it does not.",
    "top_videos": "The five videos that score highest for the best, median and worst captions, "
    "with the right one outlined, and added at the end where it is not among them.",
    "recall": "The share of queries whose truth is among the first K; bands that do not "
    "overlap those of mean pooling show what attending to the text brings.",
    "ranks": "How many queries have the truth at each rank; a model that learnt nothing follows "
    "the dotted line of chance, and a long tail is made of the queries in failures.parquet.",
    "similarities": "The further the two humps are apart, the easier is retrieval; where they "
    "overlap, other videos look as fitting as the right one.",
    "training_curves": "Recall that still rises at the end asks for more steps; recall that "
    "falls while the loss goes on falling tells of overfitting.",
    "slices": "Slices whose intervals do not reach the dotted line of all queries are easier or "
    "harder than the rest.",
}
"""By the figure's name."""
