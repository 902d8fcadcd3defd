"""A plain listener as a lab would write it: paho-mqtt, the official Kubernetes client, a thread a Job that polls.

Only the bench starts it, to have something to compare the service with. Takes the path of its order, a JSON file:
broker, filter, kubeconfig, namespace, the Job to create, and the topic of completions; with "follow": false it creates
Jobs and forgets them. Says "ready" when it is subscribed.
"""

import copy
import json
import sys
import threading
import time
import uuid

import paho.mqtt.client as mqtt
from kubernetes import client, config

POLL_SECONDS = 1


class Listener:
    def __init__(self, order):
        config.load_kube_config(order["kubeconfig"])
        self.order = order
        self.namespace = order["namespace"]
        self.batch = client.BatchV1Api()
        self.core = client.CoreV1Api()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="peer", protocol=mqtt.MQTTv5)
        self.mqtt.on_connect = self.on_connect
        self.mqtt.on_subscribe = lambda *_: print("ready", flush=True)
        self.mqtt.on_message = self.on_message

    def serve(self):
        self.mqtt.connect(self.order["host"], self.order["port"])
        self.mqtt.loop_forever()

    def on_connect(self, *_):
        # QoS 1, so that no message of a burst is lost.
        self.mqtt.subscribe(self.order["filter"], qos=1)

    def on_message(self, _client, _userdata, message):
        threading.Thread(target=self.run, args=(message.topic, message.payload.decode()), daemon=True).start()

    def run(self, topic, payload):
        name = f"peer-{uuid.uuid4().hex[:12]}"
        self.batch.create_namespaced_job(self.namespace, self.job(name, topic, payload))
        if not self.order.get("follow", True):
            return
        while not self.ended(name):
            time.sleep(POLL_SECONDS)
        end = {"run_name": name, "log": self.log(name)}
        self.mqtt.publish(f"{self.order['completions']}/{name}", json.dumps(end), qos=1)
        self.batch.delete_namespaced_job(name, self.namespace, propagation_policy="Background")

    def job(self, name, topic, payload):
        job = copy.deepcopy(self.order["template"])
        job["metadata"]["name"] = name
        job["metadata"]["annotations"]["mqtt-job-listener/topic"] = topic
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]:
            if variable["name"] == "MQTT_TOPIC":
                variable["value"] = topic
            if variable["name"] == "MQTT_PAYLOAD":
                variable["value"] = payload
        return job

    def ended(self, name):
        status = self.batch.read_namespaced_job_status(name, self.namespace).status
        return any(one.type in ("Complete", "Failed") and one.status == "True" for one in status.conditions or [])

    def log(self, name):
        pods = self.core.list_namespaced_pod(self.namespace, label_selector=f"job-name={name}").items
        return "".join(self.core.read_namespaced_pod_log(pod.metadata.name, self.namespace) for pod in pods)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        Listener(json.load(file)).serve()
