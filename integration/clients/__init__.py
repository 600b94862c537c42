"""Every client that people come with, behind one interface, and the tests that each can do what it says it can."""
