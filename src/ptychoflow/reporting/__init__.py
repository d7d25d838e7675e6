"""The report: results of a run as tables, charts, images and sentences on one page."""
