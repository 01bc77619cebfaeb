"""Do cascades of one kind go further than those of another?"""
