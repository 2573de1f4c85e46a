"Teachers that are more than a second model: the student's own base, parts of a model on other memory."
import copy

import pytest
import torch
from helpers import TOK, Corridor, policy
from peft import LoraConfig, get_peft_model

from guided_opd.policy import HFPolicy, SharedTeacher
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import collate, divergence, rows
from guided_opd.trainer import GuidedOPD, checkpoints

ENV = Corridor(max_turns=4)

def lora_student(dropout=0., extra=False):
    p = policy(0, eos=None)
    torch.manual_seed(3)
    p.model = get_peft_model(p.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, lora_dropout=dropout))
    if extra: torch.manual_seed(4); p.model.add_adapter("tutor", LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    return p

def merged(student, adapter):
    "A separate model with the adapter's weights (or none) merged in: what the shared teacher must equal."
    model = copy.deepcopy(student.model)
    if adapter is None: return HFPolicy(model.unload().eval(), TOK, "teacher", max_new_tokens=5)
    model.set_adapter(adapter)
    return HFPolicy(model.merge_and_unload(adapter_names=[adapter]).eval(), TOK, "teacher", max_new_tokens=5)

@pytest.mark.parametrize("adapter", [None, "tutor"])
def test_a_shared_teacher_is_a_separate_one_and_leaves_the_student_alone(adapter):
    student = lora_student(extra=True)
    shared, apart = SharedTeacher(student, adapter), merged(student, adapter)
    assert shared.lm is student.lm, "no copy"
    tasks = ENV.tasks("train", 4)
    a, b = (RolloutMixer(student, t, ENV, beta=.5, batch_size=2, seed=1)(tasks) for t in (shared, apart))
    assert [[u.reply_ids for u in t.turns] for t in a] == [[u.reply_ids for u in t.turns] for t in b]
    batch = collate(rows(a))

    own = [(n, p) for n, p in student.model.named_parameters() if p.requires_grad]
    assert own and all(".default." in n for n, _ in own)
    optimiser = torch.optim.AdamW([p for _, p in own], lr=1e-3)
    student.model.train()
    divergence(student, apart, batch).values_N.sum().backward(); optimiser.step()
    expected = divergence(student, apart, batch).values_N.detach()
    before = [(p.clone(), p.grad.clone()) for _, p in own], copy.deepcopy(optimiser.state_dict()), {n: p.clone() for n, p in student.model.named_parameters()}
    torch.testing.assert_close(divergence(student, shared, batch).values_N.detach(), expected, atol=2e-5, rtol=1e-4)
    RolloutMixer(student, shared, ENV, beta=1., batch_size=2)(tasks)
    assert student.model.training and student.model.active_adapters == ["default"]
    assert [n for n, p in student.model.named_parameters() if p.requires_grad] == [n for n, _ in own]
    for (_, p), (w, g) in zip(own, before[0]): assert torch.equal(p, w) and torch.equal(p.grad, g)
    for k, v in optimiser.state_dict()["state"].items(): assert all(torch.equal(v[n], before[1]["state"][k][n]) for n in v)
    assert all(torch.equal(p, before[2][n]) for n, p in student.model.named_parameters())

def test_training_with_the_base_as_teacher_resumes_and_saves_the_students_adapter_alone(tmp_path):
    def start(run, dropout=0.):
        student = lora_student()
        return GuidedOPD(student, SharedTeacher(student), ENV, run, steps=4, rollouts_per_step=3, batch_size=3, eval_every=0, save_every=1, lr=1e-2)
    whole = start(tmp_path/"a"); whole.fit(progress=False)
    start(tmp_path/"b").fit(2, progress=False); again = start(tmp_path/"b"); again.fit(progress=False)
    for (n, p), q in zip(whole.student.model.named_parameters(), again.student.model.parameters()): assert torch.equal(p, q), n
    base = policy(0, eos=None).model.state_dict()
    after = {n.replace("base_model.model.", "").replace(".base_layer", ""): p for n, p in whole.student.model.state_dict().items() if "lora_" not in n}
    assert all(torch.equal(base[n], p) for n, p in after.items())
    assert {p.name for p in (checkpoints(tmp_path/"a")[-1]/"student").iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}

def test_an_adapter_from_a_folder_and_what_cannot_be_shared(tmp_path):
    tutor = lora_student(extra=True)
    tutor.model.save_pretrained(tmp_path, selected_adapters=["tutor"])
    student = lora_student()
    shared = SharedTeacher(student, str(tmp_path/"tutor"))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(): torch.testing.assert_close(shared.hidden(ids), merged(tutor, "tutor").hidden(ids), atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for n, p in student.model.named_parameters() if ".teacher." in n) and any(p.requires_grad for p in student.model.parameters())
    for make, why in ((lambda: SharedTeacher(policy(0)), "add_lora"), (lambda: SharedTeacher(student, "default"), "student's own"), (lambda: SharedTeacher(student, "nowhere"), "no adapter 'nowhere'")):
        with pytest.raises(ValueError, match=why): make()

def test_a_teacher_whose_weights_lie_elsewhere_gives_the_same_scores(tmp_path):
    "Offloaded as for a GPU that is too small: weights come in layer by layer."
    from accelerate import cpu_offload
    teacher = policy(1, "teacher", hidden=64, layers=3, vocab=len(TOK) + 40)
    student = policy(0)
    ts = RolloutMixer(student, teacher, ENV, beta=.5, batch_size=2)(ENV.tasks("train", 3))
    near = divergence(student, teacher, collate(rows(ts)))
    cpu_offload(teacher.model, execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in teacher.model.parameters())
    far = divergence(student, teacher, collate(rows(ts)))
    torch.testing.assert_close(far.values_N, near.values_N)
    again = RolloutMixer(policy(0), teacher, ENV, beta=.5, batch_size=2)(ENV.tasks("train", 3))
    assert [[u.reply_ids for u in t.turns] for t in ts] == [[u.reply_ids for u in t.turns] for t in again]
    teacher.model.config.name_or_path = ""
    policy(0).model.save_pretrained(tmp_path); TOK.save_pretrained(tmp_path)
    loaded = HFPolicy.from_pretrained(tmp_path, load=dict(device_map="cpu"))
    assert loaded.device.type == "cpu"
