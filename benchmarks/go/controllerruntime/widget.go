// Widget: the kind, field for field that of benchmarks/widgets.py.
package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var widgetGroup = schema.GroupVersion{Group: "benchmarks.kaito.sh", Version: "v1"}

func addWidgets(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(widgetGroup, &Widget{}, &WidgetList{})
	metav1.AddToGroupVersion(scheme, widgetGroup)
}

type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WidgetSpec   `json:"spec"`
	Status WidgetStatus `json:"status,omitempty"`
}

type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

type WidgetSpec struct {
	Image       string            `json:"image"`
	Replicas    int64             `json:"replicas"`
	Revision    int64             `json:"revision"`
	Paused      bool              `json:"paused"`
	Description string            `json:"description"`
	Resources   map[string]string `json:"resources"`
	Ports       []Port            `json:"ports"`
	Env         []EnvVar          `json:"env"`
}

type Port struct {
	Name     string `json:"name"`
	Port     int64  `json:"port"`
	Protocol string `json:"protocol"`
}

type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type WidgetStatus struct {
	Round int64 `json:"round,omitempty"`
}

// What deepcopy-gen would write.

func (in *WidgetSpec) DeepCopyInto(out *WidgetSpec) {
	*out = *in
	if in.Resources != nil {
		out.Resources = make(map[string]string, len(in.Resources))
		for key, value := range in.Resources {
			out.Resources[key] = value
		}
	}
	if in.Ports != nil {
		out.Ports = make([]Port, len(in.Ports))
		copy(out.Ports, in.Ports)
	}
	if in.Env != nil {
		out.Env = make([]EnvVar, len(in.Env))
		copy(out.Env, in.Env)
	}
}

func (in *Widget) DeepCopyInto(out *Widget) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.DeepCopyInto(&out.Spec)
}

func (in *Widget) DeepCopy() *Widget {
	out := new(Widget)
	in.DeepCopyInto(out)
	return out
}

func (in *Widget) DeepCopyObject() runtime.Object { return in.DeepCopy() }

func (in *WidgetList) DeepCopyObject() runtime.Object {
	out := &WidgetList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	if in.Items != nil {
		out.Items = make([]Widget, len(in.Items))
		for index := range in.Items {
			in.Items[index].DeepCopyInto(&out.Items[index])
		}
	}
	return out
}
