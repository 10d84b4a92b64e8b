"""`make bench`: speed and scale, beside what a user would write and beside a loop without any safety."""
