// Argo Events' event source and sensor as processes of one machine, for the bench: what their own commands do
// (pkg/eventsources/cmd, pkg/sensors/cmd), but for two things. Neither serves metrics, for both would on port 7777 of
// all addresses. And KUBE_QPS is the rate of the sensor's client, for which Argo Events has no setting
// (https://github.com/argoproj/argo-events/issues/1010); unset, it is client-go's 5 calls a second, -1 is none.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/argoproj/argo-events/pkg/apis/events/v1alpha1"
	"github.com/argoproj/argo-events/pkg/eventsources"
	"github.com/argoproj/argo-events/pkg/metrics"
	"github.com/argoproj/argo-events/pkg/sensors"
	"github.com/argoproj/argo-events/pkg/shared/logging"
	"github.com/argoproj/argo-events/pkg/shared/util"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: argo-events eventsource|sensor")
	}
	var err error
	switch os.Args[1] {
	case "eventsource":
		err = eventSource()
	case "sensor":
		err = sensor()
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// As Argo's controllers give objects to their pods.
func decode(variable string, object any) error {
	text, err := base64.StdEncoding.DecodeString(os.Getenv(variable))
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	if err = json.Unmarshal(text, object); err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	return nil
}

func eventSource() error {
	source, bus := &v1alpha1.EventSource{}, &v1alpha1.BusConfig{}
	if err := decode(v1alpha1.EnvVarEventSourceObject, source); err != nil {
		return err
	}
	if err := decode(v1alpha1.EnvVarEventBusConfig, bus); err != nil {
		return err
	}
	logger := logging.NewArgoEventsLogger().Named("eventsource").With(logging.LabelEventSourceName, source.Name)
	ctx := logging.WithLogger(signals.SetupSignalHandler(), logger)
	subject, pod := os.Getenv(v1alpha1.EnvVarEventBusSubject), os.Getenv(v1alpha1.EnvVarPodName)
	return eventsources.NewEventSourceAdaptor(source, bus, subject, pod, metrics.NewMetrics(source.Namespace)).Start(ctx)
}

func sensor() error {
	object, bus := &v1alpha1.Sensor{}, &v1alpha1.BusConfig{}
	if err := decode(v1alpha1.EnvVarSensorObject, object); err != nil {
		return err
	}
	if err := decode(v1alpha1.EnvVarEventBusConfig, bus); err != nil {
		return err
	}
	config, err := util.GetClientConfig(os.Getenv(v1alpha1.EnvVarKubeConfig))
	if err != nil {
		return err
	}
	if text, set := os.LookupEnv("KUBE_QPS"); set {
		qps, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("KUBE_QPS: %w", err)
		}
		config.QPS, config.Burst = float32(qps), qps
	}
	logger := logging.NewArgoEventsLogger().Named("sensor").With("sensorName", object.Name)
	ctx := logging.WithLogger(signals.SetupSignalHandler(), logger)
	subject, pod := os.Getenv(v1alpha1.EnvVarEventBusSubject), os.Getenv(v1alpha1.EnvVarPodName)
	return sensors.NewSensorContext(kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config), object, bus,
		subject, pod, metrics.NewMetrics(object.Namespace)).Start(ctx)
}
