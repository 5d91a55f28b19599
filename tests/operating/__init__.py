"""What tests of the operator share: the manager as a child process, the cluster it works on, a proxy in between."""
