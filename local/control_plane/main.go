// Command kube-control-plane is etcd, kube-apiserver, kube-controller-manager and kube-scheduler in one binary.
//
// The four are the released Kubernetes components, unchanged: this file only picks which of them to run. One binary
// shares the code that the four have in common, so that it builds once, takes a quarter of the disk and is cached as
// one file. The first argument names the component, all others are that component's own flags.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics of the components
	_ "k8s.io/component-base/metrics/prometheus/version"  // the build_info metric
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const exitUsage = 2

// components maps a subcommand to the function that runs it and returns its exit code.
var components = map[string]func(arguments []string) int{
	"etcd":                    runEtcd,
	"kube-apiserver":          cobraRunner(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraRunner(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          cobraRunner(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
}

func main() {
	if len(os.Args) < 2 {
		fail("no component named")
	}
	run, known := components[os.Args[1]]
	if !known {
		fail(fmt.Sprintf("unknown component %q", os.Args[1]))
	}
	os.Exit(run(os.Args[1:]))
}

// runEtcd expects the arguments with a program name in front, as etcd's own main does. It returns when etcd was told to
// stop; on an error etcd ends the process itself.
func runEtcd(arguments []string) int {
	etcdmain.Main(arguments)
	return 0
}

// cobraRunner builds the command only when it is asked for: building one registers flags and metrics globally.
func cobraRunner(build func() *cobra.Command) func([]string) int {
	return func(arguments []string) int {
		command := build()
		command.SetArgs(arguments[1:])
		return cli.Run(command)
	}
}

func fail(reason string) {
	names := make([]string, 0, len(components))
	for name := range components {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "kube-control-plane: %s\nusage: kube-control-plane %s FLAGS\n", reason, strings.Join(names, "|"))
	os.Exit(exitUsage)
}
