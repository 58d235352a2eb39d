"""Images: frames of cameras, their encodings, JPEG and PNG, and pictures for people."""
