"""The others' servers, each as its manual has it. They run in environments of their own, where there is no edgekit."""
