// Package deviceplugin is a small time-slicing device plugin.
package deviceplugin

import (
	"github.com/spf13/cobra"
	_ "k8s.io/api/core/v1"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/tools/clientcmd"
	_ "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	_ "sigs.k8s.io/yaml"
)

func NewCommand() *cobra.Command { return &cobra.Command{} }
