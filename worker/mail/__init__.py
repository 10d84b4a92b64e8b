"""Mail: the server it goes through, what a mail says, and sending it."""
