"""What a black box knows of a subject: what it says again and again when it is asked in several ways."""
