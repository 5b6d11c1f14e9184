"""What a page of a test or a refinement shows, and the parts that the demonstration's page shares."""
