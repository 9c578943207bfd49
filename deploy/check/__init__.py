"""The checks of deploy/check.sh, one file for each thing that is checked.

Each check takes what it looks at and yields findings, texts that name the place and what is wrong with it. None
stops at the first.
"""
