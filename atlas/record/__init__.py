"""The reply as a document: its parts, its claims, its work items, its file. Pure: text in, values out."""
