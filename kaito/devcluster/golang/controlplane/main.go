// One executable that holds a whole Kubernetes control plane: its first argument picks the program.
//
// kaito.devcluster builds it when no release binaries are at hand. One link of all programs
// takes a fifth of the disk and less than half of the time of one link each, since they share most packages.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var commands = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	// Called through a symbolic link named after a program, the executable is that program.
	if name := filepath.Base(os.Args[0]); name == "etcd" || commands[name] != nil {
		run(name, os.Args)
	}
	if len(os.Args) < 2 {
		usage()
	}
	run(os.Args[1], os.Args[1:])
}

func run(name string, args []string) {
	if name == "etcd" {
		etcdmain.Main(args)
		os.Exit(0)
	}
	newCommand, known := commands[name]
	if !known {
		usage()
	}
	os.Args = args
	os.Exit(cli.Run(newCommand()))
}

func usage() {
	names := []string{"etcd"}
	for name := range commands {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: %s PROGRAM [FLAGS]\nprograms: %s\n", filepath.Base(os.Args[0]), strings.Join(names, ", "))
	os.Exit(2)
}
