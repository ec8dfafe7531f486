// One binary for a whole Kubernetes node: it plays the part that it is called by (its argv[0]).
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // for time zones in CronJobs

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // for JSON logs
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // for client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // for the version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"slicewatch.test/node/kubernetes/deviceplugin"
)

func main() {
	parts := map[string]func() *cobra.Command{
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubectl":                 func() *cobra.Command { return kubectl.NewDefaultKubectlCommand() },
		"device-plugin":           deviceplugin.NewCommand,
	}
	name := filepath.Base(os.Args[0])
	part, known := parts[name]
	if !known {
		fmt.Fprintf(os.Stderr, "called as %q; link it to one of: kubelet, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, device-plugin\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(part()))
}
