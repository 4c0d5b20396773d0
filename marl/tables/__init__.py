"""From the records of benchmark runs to what is shown of them: tables, plots, a page, exports.
Nothing of this imports torch."""
